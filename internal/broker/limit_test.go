// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
)

// from sends a request from an address.
func (s *stage) from(address, authorization string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, brokerapi.ValuesPath, strings.NewReader(`{"container":"idle"}`))
	r.Header.Set("Authorization", authorization)
	r.RemoteAddr = address
	s.handler.ServeHTTP(w, r)
	return w
}

// of is a review of a token of another pod.
func of(namespace, uid string) authenticationv1.TokenReviewStatus {
	return review(func(s *authenticationv1.TokenReviewStatus) {
		s.User.Username = "system:serviceaccount:" + namespace + ":web-account"
		s.User.Extra["authentication.kubernetes.io/pod-uid"] = []string{uid}
	})
}

// until counts the requests that pass before one is held, and checks how that is said.
func (s *stage) until(t *testing.T, limit int, rule string, send func(i int) *httptest.ResponseRecorder) {
	t.Helper()
	for i := range limit {
		if got := send(i); got.Code == http.StatusTooManyRequests {
			t.Fatalf("held after %d requests, before %d: %s", i, limit, got.Body)
		}
	}
	got := send(limit)
	after, err := strconv.Atoi(got.Header().Get("Retry-After"))
	if got.Code != http.StatusTooManyRequests || err != nil || after < 1 || !strings.Contains(got.Body.String(), `"retry":true`) {
		t.Errorf("after %d: status %d, %v, %s", limit, got.Code, got.Header(), got.Body)
	}
	if lines := s.log.String(); strings.Count(lines, `"result":"limited","rule":"`+rule+`"`) != 1 {
		t.Errorf("not audited as %s", rule)
	}
}

// in runs a story on a clock of its own, without a server.
func in(t *testing.T, story func(t *testing.T, s *stage)) {
	t.Helper()
	s := newStage(t)
	synctest.Test(t, func(t *testing.T) { story(t, s) })
}

const bad = "Bearer none"

func TestSourceLimit(t *testing.T) {
	in(t, func(t *testing.T, s *stage) {
		t.Helper()
		s.until(t, 2000, "SourceLimit", func(int) *httptest.ResponseRecorder { return s.from("10.0.0.1:1", bad) })
		if got := s.from("10.0.0.2:1", bad); got.Code != http.StatusUnauthorized {
			t.Errorf("the neighbour is held too: %d", got.Code)
		}
		time.Sleep(time.Second)
		s.log.Reset()
		s.until(t, 100, "SourceLimit", func(int) *httptest.ResponseRecorder { return s.from("10.0.0.1:2", bad) })
	})
}

// A node has 64 bits of addresses of IPv6 to choose from; an IPv4 address is the same
// in both notations.
func TestSourceLimitOfNeighbours(t *testing.T) {
	in(t, func(t *testing.T, s *stage) {
		t.Helper()
		s.until(t, 2000, "SourceLimit", func(i int) *httptest.ResponseRecorder { return s.from(fmt.Sprintf("[fd00:0:0:1::%x]:1", i), bad) })
		if got := s.from("[fd00:0:0:2::1]:1", bad); got.Code != http.StatusUnauthorized {
			t.Errorf("the next network is held too: %d", got.Code)
		}
		s.log.Reset()
		s.until(t, 2000, "SourceLimit", func(i int) *httptest.ResponseRecorder {
			return s.from([]string{"10.0.0.1:1", "[::ffff:10.0.0.1]:1"}[i%2], bad)
		})
	})
}

// Who guesses tokens may do so ten times a second, and still nobody is shut out for long.
func TestSourceLimitOfRejectedTokens(t *testing.T) {
	in(t, func(t *testing.T, s *stage) {
		t.Helper()
		guess := func(int) *httptest.ResponseRecorder { return s.from("10.0.0.1:1", "Bearer "+token("bad")) }
		s.until(t, 200, "SourceLimit", guess)
		if n := s.reviews.Load(); n != 200 {
			t.Errorf("%d reviews", n)
		}
		time.Sleep(time.Second)
		s.log.Reset()
		s.until(t, 10, "SourceLimit", guess)
	})
}

func TestPodLimit(t *testing.T) {
	in(t, func(t *testing.T, s *stage) {
		t.Helper()
		s.tokens["other"] = of("team", "other-uid")
		s.until(t, 200, "PodLimit", func(int) *httptest.ResponseRecorder { return s.from("10.0.0.1:1", "Bearer "+token("good")) })
		if got := s.from("10.0.0.1:1", "Bearer "+token("other")); got.Code == http.StatusTooManyRequests {
			t.Error("another pod is held too")
		}
		time.Sleep(time.Second)
		s.log.Reset()
		s.until(t, 20, "PodLimit", func(int) *httptest.ResponseRecorder { return s.from("10.0.0.1:1", "Bearer "+token("good")) })
	})
}

// Nobody can use up a pod's limit by claiming to be it.
func TestPodLimitIsOfWhoIsConfirmed(t *testing.T) {
	in(t, func(t *testing.T, s *stage) {
		t.Helper()
		for range 300 {
			if got := s.from("10.0.0.1:1", "Bearer "+token("forged")); got.Code == http.StatusOK {
				t.Fatal("answered")
			}
		}
		if got := s.from("10.0.0.2:1", "Bearer "+token("good")); got.Code != http.StatusOK {
			t.Errorf("status %d", got.Code)
		}
	})
}

func TestNamespaceLimit(t *testing.T) {
	in(t, func(t *testing.T, s *stage) {
		t.Helper()
		for i := range 20 {
			s.tokens[strconv.Itoa(i)] = of("team", "uid-"+strconv.Itoa(i))
		}
		s.tokens["another"], s.tokens["elsewhere"] = of("team", "another-uid"), of("else", "elsewhere-uid")
		address := func(i int) string { return fmt.Sprintf("10.0.%d.1:1", i%20) }
		s.until(t, 2000, "NamespaceLimit", func(i int) *httptest.ResponseRecorder {
			name := strconv.Itoa(i % 20)
			if i == 2000 {
				name = "another" // whose own limit is not reached
			}
			return s.from(address(i), "Bearer "+token(name))
		})
		if got := s.from("10.1.0.1:1", "Bearer "+token("elsewhere")); got.Code == http.StatusTooManyRequests {
			t.Error("another namespace is held too")
		}
	})
}

// The log is not flooded: each second one line about a key speaks for all.
func TestHeldRequestsShareALine(t *testing.T) {
	in(t, func(t *testing.T, s *stage) {
		t.Helper()
		s.until(t, 2000, "SourceLimit", func(int) *httptest.ResponseRecorder { return s.from("10.0.0.1:1", bad) })
		for range 50 {
			s.from("10.0.0.1:1", bad)
		}
		if n := strings.Count(s.log.String(), `"level":"WARN","msg":"request","result":"limited"`); n != 1 {
			t.Errorf("%d lines", n)
		}
		time.Sleep(time.Second)
		for range 101 {
			s.from("10.0.0.1:1", bad)
		}
		if !strings.Contains(s.log.String(), `"requests":51,`) {
			t.Error("no line speaks for the others")
		}
	})
}
