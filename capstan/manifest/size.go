package manifest

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseSize reads a size as 64M, 1G, 512K or a number of bytes. K, M and G are powers
// of 1024, with or without a B or iB behind.
func ParseSize(s string) (int64, error) {
	num := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(strings.TrimSpace(s)), "B"), "I")
	shift := 0
	if n := len(num); n > 0 {
		if i := strings.IndexByte("KMGT", num[n-1]); i >= 0 {
			shift, num = 10*(i+1), num[:n-1]
		}
	}
	v, err := strconv.ParseInt(num, 10, 64)
	if err != nil || v <= 0 || v > 1<<62>>shift {
		return 0, fmt.Errorf("%q is not a size: write it as 64M or 1G", s)
	}
	return v << shift, nil
}
