// Package lint tests the source of Weir for what compilers and general linters do
// not know: layers, purity of the protocol cores, who may ask for the time, sizes
// of files and functions, documentation, and that crash points in the list are in
// the code. It holds tests only; run them by go test ./internal/lint.
package lint
