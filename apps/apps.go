// Package apps is the catalogue: one folder a program, with its manifest, the files it
// brings along and its smoke tests. See kiln/capstan/manifest for the format.
package apps

import "embed"

// FS holds the folders.
//
//go:embed */*
var FS embed.FS
