// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/http"
)

type object = map[string]any

// review is the part of an AdmissionReview that the webhook reads.
type review struct {
	Request struct {
		UID    string `json:"uid"`
		Object struct {
			Spec struct {
				Containers     []object `json:"containers"`
				InitContainers []object `json:"initContainers"`
				Volumes        []object `json:"volumes"`
			} `json:"spec"`
		} `json:"object"`
	} `json:"request"`
}

// serveWebhook puts an init container before those of every pod it is asked
// about; that container copies a program into a volume in memory.
func serveWebhook(args []string) error {
	fs := flag.NewFlagSet("webhook", flag.ExitOnError)
	listen := fs.String("listen", ":8443", "address to listen on")
	cert := fs.String("cert", "/tls/tls.crt", "certificate file")
	key := fs.String("key", "/tls/tls.key", "key file")
	image := fs.String("image", "registry.localhost:5000/busybox:1", "image of the init container")
	_ = fs.Parse(args)

	mux := http.NewServeMux()
	mux.HandleFunc("POST /mutate", func(w http.ResponseWriter, r *http.Request) { admit(w, r, *image) })
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	return http.ListenAndServeTLS(*listen, *cert, *key, mux)
}

func admit(w http.ResponseWriter, r *http.Request, image string) {
	var in review
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	patch, err := json.Marshal(injection(&in, image))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	log.Printf("mutating pod, request %s", in.Request.UID)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(object{
		"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
		"response": object{"uid": in.Request.UID, "allowed": true, "patchType": "JSONPatch", "patch": patch},
	})
}

func injection(in *review, image string) []object {
	spec := in.Request.Object.Spec
	mount := object{"name": "injected", "mountPath": "/injected"}
	for _, c := range spec.Containers {
		mounts, _ := c["volumeMounts"].([]any)
		c["volumeMounts"] = append(mounts, mount)
	}
	volume := object{"name": "injected", "emptyDir": object{"medium": "Memory"}}
	first := object{
		"name": "injected", "image": image, "volumeMounts": []object{mount},
		"command": []string{"/bin/cp", "/bin/busybox", "/injected/busybox"},
	}
	return []object{
		{"op": "add", "path": "/spec/containers", "value": spec.Containers},
		{"op": "add", "path": "/spec/volumes", "value": append(spec.Volumes, volume)},
		{"op": "add", "path": "/spec/initContainers", "value": append([]object{first}, spec.InitContainers...)},
	}
}
