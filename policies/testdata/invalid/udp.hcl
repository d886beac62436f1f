# Datagrams where there is no way for them to come.
listener "web" {
  address   = "127.0.0.1:3128"
  protocols = ["http", "socks4"]
  udp {} # ERROR: UDP without SOCKS5
}
listener "local" {
  address = "unix:/run/viaduct/proxy.sock"
  udp { # ERROR: UDP on a Unix socket
    idle_timeout = "soon" # ERROR: Wrong duration
    targets      = 0      # ERROR: Number out of range
    port         = 1      # ERROR: Unsupported argument
  }
}
listener "fine" {
  address = "127.0.0.1:1080"
  udp {}
}
policy "default" {
  rule "x" {
    match { protocol = "socks5udp" } # ERROR: Unknown value
    via = direct
  }
  otherwise { via = direct }
}
