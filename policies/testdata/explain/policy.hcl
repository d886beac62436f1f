listener "l" {
  address = "127.0.0.1:3128"
}
listener "other" {
  address = "127.0.0.1:3129"
}
list "ads" {
  file = "../lists/ads.txt"
}
policy "default" {
  rule "three patterns" {
    match { host = ["*.corp.example", "intranet", "/^x[0-9]+$/"] }
    via = direct
  }
  rule "listed" {
    match { host = [list.ads, "ads*.example.net"] }
    deny {}
  }
  rule "listener" {
    match { listener = listener.other }
    via = direct
  }
  rule "guests" {
    match { client = ["192.0.2.0/24", "2001:db8::/32"] }
    deny {}
  }
  rule "users" {
    match { user = ["otto", "b*"] }
    via = direct
  }
  rule "api" {
    match {
      host   = "api.example.com"
      method = "GET"
      path   = ["/v1/*", "/^\\/v[23]\\//"]
      header = { "X-Team" = "blue*" }
    }
    via = direct
  }
  rule "games" {
    match {
      host = "*.games.example"
      time = "mon-fri 08:00-18:00"
    }
    deny {}
  }
  rule "games at night" {
    match { host = "*.games.example" }
    when = now.hour >= 22 && client.user != "otto"
    deny {}
  }
  rule "watch" {
    match { port = 443 }
    shadow = true
    deny {}
  }
  rule "literal" {
    match {
      address = "198.51.100.0/24"
      resolve = false
    }
    via = direct
  }
  rule "two ways" {
    match {
      port = [22, "8000-8999"]
      not { host = "*.ok.example" }
      not { client = "10.0.0.0/8" }
    }
    match {
      protocol = "socks5"
      port     = 1080
    }
    via = direct
  }
  rule "private" {
    match {
      port    = 443
      address = ["10.0.0.0/8", "192.168.0.0/16"]
    }
    via = direct
  }
  otherwise { via = direct }
}
