listener "open" { # ERROR: No password to pass on
  address = "127.0.0.1:3128"
}
listener "kept_away" {
  address = "127.0.0.1:3129"
}
listener "pac" { # WARNING: No password to pass on
  address = "127.0.0.1:3130"
  policy  = policy.pac
}
upstream "corp" {
  url = "http://127.0.0.1:8080"
  auth {
    from_client = true
    username    = "u" # ERROR: Whose credential
    schemes     = ["digest"] # ERROR: Whose credential
  }
}
upstream "socks" {
  url = "socks5h://127.0.0.1:1080"
  auth { from_client = true } # ERROR: Clients' passwords to a SOCKS proxy
}
pool "corp" {
  members = [upstream.corp, upstream.socks]
}
pac "any" {
  file = "../pac/good.pac"
}
policy "default" {
  rule "away" {
    match { listener = "kept_away" }
    via = direct
  }
  rule "corp" {
    match {
      listener = "open"
      host     = "*.example"
    }
    via = [pool.corp]
  }
  otherwise { via = direct }
}
policy "pac" {
  otherwise { via = pac.any }
}
