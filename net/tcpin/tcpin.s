// tcpin.go has functions without a body, which the compiler wants an assembly file for.
