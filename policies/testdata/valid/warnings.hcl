listener "lan" { # WARNING: Passwords in the clear
  address = "0.0.0.0:3128"
  authenticate { htpasswd = "../lists/users" }
}
upstream "clear" {
  url = "http://proxy.example:8080"
  auth { # WARNING: Password in the clear
    username = "x"
    password = "literal" # WARNING: Password in the policy
  }
}
upstream "socks" {
  url = "socks5://proxy.example:1080"
  auth { # WARNING: Password in the clear
    username = "x"
    password = credential("corp")
  }
}
upstream "lonely" { # WARNING: Not used
  url = "http://127.0.0.1:8080"
}
list "lonely" { # WARNING: Not used
  file = "../lists/ads.txt"
}
pool "lonely" { # WARNING: Not used
  members = [direct]
}
chain "lonely" { # WARNING: Not used
  hops = [upstream.clear, upstream.socks]
}
policy "other" { # WARNING: Not used
  otherwise { via = direct }
}
policy "default" {
  rule "wide" {
    match { host = ["*.example", "10.0.0.1"] }
    via = upstream.clear
  }
  rule "below" { # WARNING: Rule never reached
    match {
      host = "www.corp.example"
      port = 443
    }
    via = direct
  }
  rule "glob below" { # WARNING: Rule never reached
    match { host = "ads*.corp.example" }
    via = direct
  }
  rule "beside" {
    match { host = ["www.corp.example", "www.example.org"] }
    via = direct
  }
  rule "apex" {
    match { host = "example" }
    via = direct
  }
  rule "ports" {
    match { port = "8000-8999" }
    via = direct
  }
  rule "one port" { # WARNING: Rule never reached
    match {
      port   = [8080, "8100-8200"]
      client = "10.0.0.0/8"
    }
    via = direct
  }
  rule "clients" {
    match { client = ["10.0.0.0/8", "fd00::/8"] }
    via = direct
  }
  rule "some clients" { # WARNING: Rule never reached
    match { client = ["10.1.0.0/16"] }
    match { client = ["fd00::1"] }
    deny {}
  }
  rule "literal" {
    match {
      address = "192.0.2.0/24"
      resolve = false
    }
    via = direct
  }
  rule "resolved" {
    match { address = "192.0.2.0/24" }
    via = direct
  }
  rule "resolved again" { # WARNING: Rule never reached
    match {
      address = "192.0.2.1"
      resolve = false
    }
    via = direct
  }
  rule "conditional" {
    match { user = "anna" }
    when = true # WARNING: Condition always true
    via  = direct
  }
  rule "never" {
    when = 1 > 2 # WARNING: Condition always false
    via  = direct
  }
  rule "teams" {
    match { header = { "X-Team" = ["blue*", "red"] } }
    via = direct
  }
  rule "one team" { # WARNING: Rule never reached
    match {
      header = { "x-team" = "red" }
      port   = 9
    }
    via = direct
  }
  rule "another team" {
    match { header = { "X-Team" = "green" } }
    via = direct
  }
  rule "but one" {
    match {
      port = 7
      not { host = "a.example.net" }
    }
    via = direct
  }
  rule "the same but one" { # WARNING: Rule never reached
    match {
      port   = 7
      client = "192.0.2.1"
      not { host = "a.example.net" }
    }
    via = direct
  }
  rule "but another" {
    match {
      port = 7
      not { host = "b.example.net" }
    }
    via = direct
  }
  rule "shadow of all" {
    shadow = true
    deny {}
  }
  rule "all" {
    via = upstream.socks
  }
  rule "late" { # WARNING: Rule never reached
    match { host = "late.example.net" }
    via = direct
  }
  otherwise { via = direct } # WARNING: Rule never reached
}
