package image

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"unicode/utf8"
)

// Arguments, environment and paths come out of an image as the bytes that went in.
func TestStringsOfAConfigurationAreBytes(t *testing.T) {
	k, err := ReadKernel(fakeKernel())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"/plain", "/caf\xe9", "/\xff\xfe\x80", "/é\xc3", "/\u0000\n\"\\<", "/\ufffd \U0010fe80\U0010feff \U0010ffff", "/\xed\xa0\x80"} {
		exec := Exec{Program: s, Args: []string{s, ""}, Env: []string{"K=" + s}, WorkDir: s}
		alone := &Config{Version: ConfigVersion, Name: s, Program: s, Args: []string{s}, Env: []string{"A=b", "X=" + s}, WorkDir: s,
			Mounts: []Mount{{Type: "tmpfs", Target: s}}, Limits: map[string]Limit{"nofile": {1, 2}}}
		several := &Config{Version: ConfigVersion, Name: "x", Programs: Programs{{Name: "a", Exec: exec, Essential: true, Health: &Health{Command: []string{s}}},
			{Name: "b", Pipeline: []Exec{exec, exec}, Backoff: DefaultBackoff}}}
		for _, cfg := range []*Config{alone, several} {
			img := build(t, k, cfg, nil)
			f, err := Open(bytes.NewReader(img), int64(len(img)))
			if err != nil {
				t.Errorf("%q: %v", s, err)
				continue
			}
			if !reflect.DeepEqual(f.Config, cfg) {
				t.Errorf("%q:\n got %+v\nwant %+v", s, f.Config, cfg)
			}
			if !utf8.Valid(f.RawConfig) || !json.Valid(f.RawConfig) {
				t.Errorf("%q: the document is no JSON: %q", s, f.RawConfig)
			}
		}
	}
	cfg := &Config{Version: ConfigVersion, Program: "/x", Args: []string{"\xff"}}
	if _, err := Encode(cfg); err != nil || cfg.Args[0] != "\xff" {
		t.Errorf("encoding changes the configuration: %q, %v", cfg.Args, err)
	}
}
