// Package inference has the messages and the service of the Open Inference Protocol,
// generated from inference.proto.
package inference

//go:generate go -C ../internal/gen run . ../../inference
