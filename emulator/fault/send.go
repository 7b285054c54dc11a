// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"time"
)

// pieces is how many parts a slow body arrives in.
const pieces = 20

// Send writes an answer as the faults want it. A truncated body ends the handler by http.ErrAbortHandler, so what has
// to be done about the request is done before.
func (o Outcome) Send(ctx context.Context, w http.ResponseWriter, status int, body []byte) {
	if len(body) == 0 {
		w.WriteHeader(status) // there is nothing to cut or slow down
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if o.truncate {
		body = body[:len(body)/2]
	}
	o.dribble(ctx, w, body)
	if o.truncate {
		_ = http.NewResponseController(w).Flush() // the client has gone; nobody is left to tell
		panic(http.ErrAbortHandler)
	}
}

func (o Outcome) dribble(ctx context.Context, w http.ResponseWriter, body []byte) {
	if o.slow > 0 {
		step := max(1, (len(body)+pieces-1)/pieces)
		wait := o.slow / time.Duration((len(body)+step-1)/step)
		for len(body) > step && !isClosed(o.over) && ctx.Err() == nil {
			_, _ = w.Write(body[:step]) // as above
			_ = http.NewResponseController(w).Flush()
			body = body[step:]
			pause(ctx, wait, o.over)
		}
		pause(ctx, wait, o.over)
	}
	_, _ = w.Write(body) // as above
}

// Reset ends the connection without an answer, with a TCP reset where the connection can be had, and the handler by
// http.ErrAbortHandler.
func Reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	under := conn
	if tlsConn, is := conn.(interface{ NetConn() net.Conn }); is {
		under = tlsConn.NetConn()
	}
	if tcp, is := under.(*net.TCPConn); is {
		_ = tcp.SetLinger(0)
	}
	_ = under.Close()
	panic(http.ErrAbortHandler)
}
