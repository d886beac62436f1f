package forward

const loadEnv = "VIADUCT_FORWARD_LOAD"

func runLoad() {}
