listener "l" {
  address = "0.0.0.0:3128"
  clients = ["10.0.0.0/8"]
}
listener "six" {
  address = "[::1]:3130"
}
upstream "us" {
  url = "http://127.0.0.1:3128" # ERROR: Upstream is this gateway
}
upstream "name" {
  url = "socks5://localhost:3128" # ERROR: Upstream is this gateway
}
upstream "mapped" {
  url = "http://[::ffff:127.0.0.1]:3128" # ERROR: Upstream is this gateway
}
upstream "admin" {
  url = "http://127.0.0.1:9090" # ERROR: Upstream is this gateway
}
upstream "other" {
  url = "http://127.0.0.1:3130"
}
gateway {
  admin { address = "127.0.0.1:9090" }
}
policy "default" {
  rule "server" {
    match { host = "x.example" }
    via    = direct
    server = "127.0.0.1:3128" # ERROR: Server is this gateway
  }
  otherwise { via = [upstream.us, upstream.name, upstream.mapped, upstream.admin, upstream.other] }
}
