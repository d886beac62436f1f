upstream "a" {
  url = "http://127.0.0.1:8080"
}
chain "three" {
  hops = [upstream.a, upstream.a, upstream.a]
}
chain "nine" { # ERROR: Way too long
  hops = [chain.three, chain.three, chain.three]
}
policy "default" {
  otherwise { via = chain.nine }
}
