//go:build race

package hosted

func init() { raceDetector = true }
