//go:build !linux

package main

import "testing"

func childrenOf(t *testing.T, _ int) []int {
	t.Helper()
	t.Skip("child processes are found through /proc")
	return nil
}

func alive(int) bool { return false }
