package image

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"unicode/utf8"
)

// Arguments, variables and paths are bytes, and JSON is Unicode. In a document a byte that
// is no UTF-8 stands as rawByte plus the byte, a character of no meaning (private use),
// and so do the bytes of such a character itself.
const rawByte = 0x10fe00

func isRaw(r rune) bool { return r >= rawByte+0x80 && r <= rawByte+0xff }

// Encode writes a Config or an Exec as JSON.
func Encode(v any) ([]byte, error) {
	return json.Marshal(mapStrings(reflect.ValueOf(v), escape).Interface())
}

// Decode reads what Encode wrote into v, a pointer to a Config or an Exec.
func Decode(b []byte, v any) error {
	if err := json.Unmarshal(b, v); err != nil {
		return err
	}
	// The UTF-8 of rawByte+0x80 to +0xff. Few documents have it, and a boot need not look.
	if bytes.Contains(b, []byte("\xf4\x8f\xba")) || bytes.Contains(b, []byte("\xf4\x8f\xbb")) {
		p := reflect.ValueOf(v).Elem()
		p.Set(mapStrings(p, unescape))
	}
	return nil
}

func escape(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, isRaw) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if raw := r == utf8.RuneError && n == 1 || isRaw(r); !raw {
			b.WriteString(s[i : i+n])
		} else {
			for _, c := range []byte(s[i : i+n]) {
				b.WriteRune(rawByte + rune(c))
			}
		}
		i += n
	}
	return b.String()
}

func unescape(s string) string {
	var b strings.Builder
	for _, r := range s {
		if isRaw(r) {
			b.WriteByte(byte(r - rawByte))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// mapStrings is a copy of v with f of every string, but for the keys of maps.
func mapStrings(v reflect.Value, f func(string) string) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	out.Set(v)
	switch v.Kind() {
	case reflect.String:
		out.SetString(f(v.String()))
	case reflect.Struct:
		for i := range v.NumField() {
			out.Field(i).Set(mapStrings(v.Field(i), f))
		}
	case reflect.Slice:
		if !v.IsNil() {
			out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		}
		for i := range v.Len() {
			out.Index(i).Set(mapStrings(v.Index(i), f))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			out.Set(reflect.New(v.Type().Elem()))
			out.Elem().Set(mapStrings(v.Elem(), f))
		}
	}
	return out
}
