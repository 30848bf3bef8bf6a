package python

import (
	"maps"
	"testing"

	"kiln/tests/suites"
)

func TestOutcomesAreReadFromTheConsole(t *testing.T) {
	runs, err := parse([]byte("noise\r\n" +
		"\x1e{\"module\": \"m\", \"id\": \"test.m.A.a\", \"result\": \"pass\", \"detail\": \"\"}\r\nkernel: says something\r\n" +
		"\x1e{\"module\": \"m\", \"id\": \"test.m.A.b\", \"result\": \"hang\", \"detail\": \"where\"}\n" +
		"\x1e{\"module\": \"m\", \"id\": \"test.m.A.c\", \"result\": \"skip\", \"detail\": \"why\"}\n" +
		"\x1e{\"module\": \"m\", \"id\": \"test.m.A.c\", \"result\": \"pass\", \"detail\": \"\"}\n" +
		"\x1e{\"module\": \"m\", \"done\": true, \"log\": \"OK\"}\n"))
	r := runs["m"]
	if err != nil || len(runs) != 1 || !r.Ended || r.Log != "OK" {
		t.Fatal(runs, err)
	}
	want := suites.Unit{"m.A.a": suites.Pass, "m.A.b": suites.Fail, "m.A.c": suites.Skip}
	if !maps.Equal(r.Unit, want) || r.Details["m.A.b"] != "hang: where" {
		t.Errorf("%v %q", r.Unit, r.Details)
	}
	if _, err := parse([]byte("\x1e{\"cut")); err == nil {
		t.Error("a broken line is taken")
	}
}
