// Package fakemodel is a model server for tests: it speaks the protocols of real
// ones, answers what a documented formula says, fails as a script tells it, and
// keeps books of who asked for what.
//
// # Endpoints
//
//   - Open Inference Protocol (KServe v2) REST: POST /v2/models/M/infer and
//     /v2/models/M/versions/V/infer, GET /v2, /v2/health/live, /v2/health/ready,
//     /v2/models/M and /v2/models/M/ready (both also by version). Tensors of all
//     datatypes, flat or nested; the first dimension is the batch. The binary tensor
//     extension is refused.
//   - OpenAI: POST /v1/chat/completions, also streamed, POST /v1/embeddings, GET
//     /v1/models and /v1/models/M. Text only: no tools, images or log probabilities.
//   - TensorFlow Serving REST: POST /v1/models/M:predict and
//     /v1/models/M/versions/V:predict, by rows or by columns. No labels, no classify,
//     regress or status.
//   - POST /json/M answers any JSON; ?version=V picks a version.
//   - /control: see [Server.Control].
//
// # Answers
//
// Everything derives from one number: the fingerprint of a model, its version and an
// input is XXH64 of model, a zero byte, version, a zero byte, and the input as text.
// [Row] says what that text is for features, [Prompt] for a chat; an embedding has
// none. A call that names no version gets the model's default, which is "1" unless
// the script says otherwise.
//
//   - [Score]: the fingerprint as a number in [0,1). A model with the function
//     "logistic" computes a logistic regression instead.
//   - [Embedding]: a unit vector of hashed words, so that texts that share words are
//     near each other.
//   - [ChatAnswer]: "answer:" and 8 hexadecimal digits of the fingerprint, followed by
//     the lines of the prompt that share most words with its last line.
//
// Answers carry nothing else that changes, but for "created" of OpenAI's.
//
// # Idempotency keys
//
// Keys only serve the books: the server answers each call anew. The header
// Idempotency-Key carries one. For a call with many inputs it may occur once per
// input, in their order. The Open Inference Protocol has the parameter
// idempotency_keys besides: an array of strings, or one string with that array as JSON
// or with the keys on lines of their own.
//
// # Limits
//
// Bodies, headers, connections, inputs per call, keys and remembered calls are
// bounded; see [Options]. The server has no authentication and serves plain HTTP,
// on loopback unless told otherwise.
package fakemodel
