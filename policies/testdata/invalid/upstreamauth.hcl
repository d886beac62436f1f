upstream "a" {
  url = "http://127.0.0.1:8080"
  auth {
    username = "u"
    password = credential("corp")
    schemes  = ["digst", "basic", "basic"] # ERROR: Unknown scheme # ERROR: Twice the same
  }
}
upstream "b" {
  url = "http://127.0.0.1:8080"
  auth {
    username = "u"
    schemes  = ["digest", "bearer"] # ERROR: Missing argument # ERROR: Missing argument
  }
}
upstream "c" {
  url = "http://127.0.0.1:8080"
  auth {
    header  = "Via" # ERROR: Wrong field name
    schemes = ["basic"] # ERROR: Without effect
    token   = credential("corp")
  }
}
upstream "d" {
  url = "http://127.0.0.1:8080"
  auth {
    username = "u"
    password = credential("corp")
    token    = credential("corp") # ERROR: Which of the two
    warm_url = "https://a.example/" # ERROR: Wrong URL
  }
}
upstream "e" {
  url = "socks5h://127.0.0.1:1080"
  auth {
    username = "u"
    password = credential("corp")
    schemes  = ["basic"] # ERROR: Without effect
  }
}
upstream "f" {
  url = "http://127.0.0.1:8080"
  auth {
    token   = "x" # WARNING: Password in the policy
    schemes = [] # ERROR: Empty list
  }
}
upstream "g" {
  url = "http://127.0.0.1:8080"
  auth {
    username  = "u"
    password  = credential("corp")
    domain    = "CORP" # ERROR: Without effect
    schemes   = ["digest"]
    keytab    = "x.keytab" # ERROR: Without effect
    krb5_conf = "krb5.conf" # ERROR: Without effect
  }
}
upstream "h" {
  url = "http://127.0.0.1:8080"
  auth {
    ccache         = "KEYRING:persistent:0" # ERROR: Wrong credential cache
    spn            = "HTTP/proxy"
    canonical_name = true # ERROR: Without effect
  }
}
upstream "i" {
  url = "http://127.0.0.1:8080"
  auth {
    username = "u"
    schemes  = ["negotiate"] # ERROR: Missing argument
  }
}
policy "default" {
  otherwise { via = [upstream.a, upstream.b, upstream.c, upstream.d, upstream.e, upstream.f, upstream.g] }
  rule "2" {
    match { port = 2 }
    via = [upstream.h, upstream.i]
  }
}
