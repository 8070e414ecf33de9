package fakemodel

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
)

// handler returns all endpoints.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/control/", s.Control())
	for _, path := range []string{"/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer"} {
		mux.HandleFunc("POST "+path, s.infer(oip{}))
	}
	mux.HandleFunc("POST /v1/chat/completions", s.infer(chat{s.opts.Clock}))
	mux.HandleFunc("POST /v1/embeddings", s.infer(embeddings{}))
	mux.HandleFunc("POST /v1/models/{target...}", s.infer(tfServing{}))
	mux.HandleFunc("POST /json/{model}", s.infer(generic{}))
	s.describe(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, protocolOf(r.URL.Path), http.StatusNotFound, "there is no "+r.Method+" "+r.URL.Path)
	})
	if s.loopback {
		return localHostOnly(mux)
	}
	return mux
}

// protocolOf guesses whose errors a path should get.
func protocolOf(path string) protocol {
	if strings.HasPrefix(path, "/v1/") && !strings.Contains(path, ":") {
		return embeddings{}
	}
	return oip{}
}

// describe registers health and metadata.
func (s *Server) describe(mux *http.ServeMux) {
	get := func(path string, p protocol, answer func(r *http.Request) any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			if rule := s.program.Load().probe(r.URL.Path); rule != nil {
				s.refuse(w, p, rule.Status, rule.message())
				return
			}
			v := answer(r)
			if v == nil {
				s.refuse(w, p, http.StatusNotFound, "there is no such model or version")
				return
			}
			body, _ := json.Marshal(v) // these hold nothing that fails
			s.write(w, http.StatusOK, jsonType, body)
		})
	}
	server := func(*http.Request) any {
		return map[string]any{"name": "weir fakemodel", "version": "1", "extensions": []string{}}
	}
	get("/v2", oip{}, server)
	get("/v2/{$}", oip{}, server)
	get("/v2/health/live", oip{}, func(*http.Request) any { return map[string]bool{"live": true} })
	get("/v2/health/ready", oip{}, func(*http.Request) any { return map[string]bool{"live": true, "ready": true} })
	for _, path := range []string{"/v2/models/{model}", "/v2/models/{model}/versions/{version}"} {
		get(path, oip{}, func(r *http.Request) any {
			name := r.PathValue("model")
			m, v := s.program.Load().model(name, r.PathValue("version"))
			if v == "" {
				return nil
			}
			return metadata(name, m, v)
		})
		get(path+"/ready", oip{}, func(r *http.Request) any {
			if _, v := s.program.Load().model(r.PathValue("model"), r.PathValue("version")); v == "" {
				return nil
			}
			return map[string]any{"name": r.PathValue("model"), "ready": true}
		})
	}
	get("/v1/models", embeddings{}, func(*http.Request) any { return s.modelList() })
	get("/v1/models/{model...}", embeddings{}, func(r *http.Request) any {
		if _, v := s.program.Load().model(r.PathValue("model"), ""); v == "" || r.PathValue("model") == "" {
			return nil
		}
		return modelObject(r.PathValue("model"))
	})
}

func modelObject(name string) any {
	return map[string]any{"id": name, "object": "model", "created": 0, "owned_by": "weir"}
}

// modelList is OpenAI's list of the models: those of the script.
func (s *Server) modelList() any {
	data := []any{}
	for _, name := range sortedNames(s.program.Load().script.Models) {
		data = append(data, modelObject(name))
	}
	return map[string]any{"object": "list", "data": data}
}

// read decodes a request into c.
func (s *Server) read(w http.ResponseWriter, r *http.Request, p protocol, c *call, prog *program) (inference, error) {
	// The HTTP server takes the deadline away when it has seen the end of the body.
	_ = http.NewResponseController(w).SetReadDeadline(s.deadline()) // connections of this server take deadlines
	var buf bytes.Buffer
	if n := r.ContentLength; n > 0 && n <= s.opts.MaxBody {
		buf.Grow(int(n) + bytes.MinRead)
	}
	_, err := buf.ReadFrom(http.MaxBytesReader(w, r.Body, s.opts.MaxBody))
	c.body, c.arrived = buf.Bytes(), s.opts.Clock.Mono()
	if err == nil {
		return p.decode(c, r, prog, &limits{items: s.opts.MaxItems, keyLen: maxKeyLen})
	}
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, refuse(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", s.opts.MaxBody)
	}
	return nil, refuse(http.StatusBadRequest, "the body cannot be read: %v", err)
}

// infer serves one endpoint for inference.
func (s *Server) infer(p protocol) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		prog := s.program.Load()
		c := &call{path: r.URL.Path, items: 1}
		inf, err := s.read(w, r, p, c, prog)
		x := &exchange{s: s, w: w, r: r, p: p, c: c, prog: prog}
		var logErr error
		if x.rec, logErr = s.book.begin(c); logErr != nil {
			s.opts.Logger.Error("the fake model server cannot write its log", "error", logErr)
			x.refuse(http.StatusInternalServerError, "the server cannot write its log", Failed)
			return
		}
		if err != nil {
			status := http.StatusBadRequest
			if e, ok := errors.AsType[*refusal](err); ok {
				status = e.status
			}
			x.refuse(status, err.Error(), Invalid)
			return
		}
		x.run(inf)
	}
}

// write sends a whole answer.
func (s *Server) write(w http.ResponseWriter, status int, contentType string, body []byte) {
	_ = http.NewResponseController(w).SetWriteDeadline(s.deadline())
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone
}

func (s *Server) refuse(w http.ResponseWriter, p protocol, status int, what string) {
	s.write(w, status, jsonType, p.refusal(status, what))
}

// Control returns the endpoints of the control, which the server also serves itself.
//
//   - GET /control/script returns the script, PUT replaces it.
//   - GET /control/calls returns the calls as lines of JSON, as [Call] has them;
//     ?key=K and ?model=M select some, ?outcome=running those in flight.
//   - GET /control/keys returns the idempotency keys as lines of JSON, as [KeyCount] has
//     them; ?min=2 leaves out those seen less often.
//   - GET /control/stats returns [Stats].
func (s *Server) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /control/script", func(w http.ResponseWriter, _ *http.Request) { s.writeJSON(w, s.Script()) })
	mux.HandleFunc("PUT /control/script", s.putScript)
	mux.HandleFunc("GET /control/stats", func(w http.ResponseWriter, _ *http.Request) { s.writeJSON(w, s.Stats()) })
	mux.HandleFunc("GET /control/calls", s.getCalls)
	mux.HandleFunc("GET /control/keys", s.getKeys)
	return mux
}

func (s *Server) writeJSON(w http.ResponseWriter, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.write(w, http.StatusOK, jsonType, append(body, '\n'))
}

func (s *Server) putScript(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxScript))
	var script Script
	if err == nil {
		script, err = ParseScript(text)
	}
	if err == nil {
		err = s.SetScript(script)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
