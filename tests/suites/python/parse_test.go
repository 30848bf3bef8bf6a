package python

import (
	"maps"
	"testing"

	"kiln/tests/suites"
)

func TestOutcomesAreReadFromTheConsole(t *testing.T) {
	r, err := parse([]byte("noise\r\n" +
		"\x1e{\"module\": \"m\", \"id\": \"test.m.A.a\", \"result\": \"pass\", \"detail\": \"\"}\r\nkernel: says something\r\n" +
		"\x1e{\"module\": \"m\", \"id\": \"test.m.A.b\", \"result\": \"hang\", \"detail\": \"where\"}\n" +
		"\x1e{\"module\": \"m\", \"id\": \"test.m.A.c\", \"result\": \"skip\", \"detail\": \"why\"}\n" +
		"\x1e{\"module\": \"m\", \"id\": \"test.m.A.c\", \"result\": \"pass\", \"detail\": \"\"}\n" +
		"\x1e{\"module\": \"m\", \"done\": true, \"log\": \"OK\"}\n"))
	if err != nil || !r.Ended || r.Log != "OK" {
		t.Fatal(r, err)
	}
	want := suites.Unit{"m.A.a": suites.Pass, "m.A.b": suites.Fail, "m.A.c": suites.Skip}
	if !maps.Equal(r.Unit, want) || r.Details["m.A.b"] != "hang: where" {
		t.Errorf("%v %q", r.Unit, r.Details)
	}
	if _, err := parse([]byte("\x1e{\"cut")); err == nil {
		t.Error("a broken line is taken")
	}
}
