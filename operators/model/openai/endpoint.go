package openai

import (
	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/internal/rest"
)

// Endpoint is a model on a server.
type Endpoint struct {
	// URL of the server up to and with the version of the interface, such as
	// "https://api.openai.com/v1".
	URL string
	// Model is the name of the model. The server may say a more exact one, which
	// becomes the Version of results.
	Model string
	// Access says how the server may be reached. Chats take longer than other
	// predictions: think of Timeout.
	Access model.Access
}

func (e *Endpoint) client() (*rest.Client, error) {
	if e.Model == "" {
		return nil, rest.Error("the endpoint names no model", e.URL, "give the name of the model")
	}
	return rest.New(e.URL, e.Access)
}

// usage is what an answer says of tokens.
type usage struct {
	PromptTokens     int64 `json:"prompt_tokens"`
	CompletionTokens int64 `json:"completion_tokens"`
}

func (u *usage) tokens() model.Usage {
	return model.Usage{InputTokens: max(0, u.PromptTokens), OutputTokens: max(0, u.CompletionTokens)}
}
