// Package openai asks models that are served by the HTTP interface of OpenAI, by
// OpenAI itself or by others that follow it: vLLM, llama.cpp, Ollama, TGI, LiteLLM,
// gateways. It has chat completions, also streamed, and embeddings.
//
//	client, err := openai.NewChat(
//		openai.Endpoint{URL: "https://api.openai.com/v1", Model: "gpt-5-mini", Access: model.Access{Secret: model.SecretFromEnv("OPENAI_API_KEY")}},
//		openai.Chat[Ticket, Reply]{
//			Prompt: func(t *Ticket) (openai.Request, error) {
//				return openai.Request{Messages: []openai.Message{openai.System("Answer briefly."), openai.User(t.Text)}}, nil
//			},
//			Reply: func(_ *Ticket, c *openai.Completion) (Reply, error) { return Reply{c.Content}, nil },
//		})
//
// A chat is one request for each call, a bounded number of them at once. Embeddings
// are one request for all calls.
//
// A streamed chat hands each piece of the answer to Delta as it comes, and the whole to
// Reply at its end. Where the stream breaks before that, the outcome is Unknown, and
// Delta sees the pieces of the next attempt from the start.
//
// # Not here
//
// Several choices for one prompt, images and sound, the Responses and Assistants
// interfaces, batches by file, and embeddings in base64.
package openai
