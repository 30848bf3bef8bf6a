package main

import (
	"bytes"
	"os"
	"testing"
)

func TestListOfSystemCallsIsFresh(t *testing.T) {
	want, err := list()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../capstan/cli/syscalls.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the kernel's table has changed: run `go run ./cmd/gensyscalls`")
	}
}
