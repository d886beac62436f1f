upstream "a" {
  url = "http://127.0.0.1:8080"
}
pool "p" {
  members = [chain.c, upstream.a]
}
chain "c" { # ERROR: Routes in a circle
  hops = [upstream.a, pool.p]
}
chain "self" { # ERROR: Routes in a circle
  hops = [chain.self, upstream.a]
}
locals {
  one = local.two # ERROR: Local values in a circle
  two = local.one
}
policy "default" {
  rule "x" {
    match { port = 1 }
    via = chain.self
  }
  otherwise { via = pool.p }
}
