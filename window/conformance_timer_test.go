package window_test

import "testing"

func runKeyedTimer(t *testing.T, c testCase) { t.Fatal("TODO") }
