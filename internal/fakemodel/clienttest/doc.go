// Package clienttest lets other people's client libraries talk to the fake model
// server: OpenAI's own for Go and sashabaranov/go-openai. It has nothing but tests.
package clienttest
