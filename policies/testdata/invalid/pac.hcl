listener "desk" {
  address = "127.0.0.1:3128"
}
upstream "a" {
  url = "http://proxy.example:8080"
}
pac "none" { # ERROR: Missing argument
}
pac "both" {
  url  = "https://wpad.example/proxy.pac"
  file = "../pac/good.pac" # ERROR: Two scripts
}
pac "scheme" {
  url = "ftp://wpad.example/proxy.pac" # ERROR: Wrong URL
}
pac "secret" {
  url = "https://ann:hunter2@wpad.example/proxy.pac" # ERROR: Wrong URL
}
pac "html" {
  file = "../pac/login.html" # ERROR: Not a PAC script
}
pac "half" {
  file = "../pac/half.pac" # ERROR: Not a PAC script
}
pac "gone" {
  file = "../pac/gone.pac" # ERROR: Cannot read file
}
pac "often" {
  url     = "https://wpad.example/proxy.pac"
  refresh = "1s" # ERROR: Wrong duration
}
pac "of_file" {
  file    = "../pac/good.pac"
  refresh = "1m" # ERROR: Without effect
}
pac "upon" {
  file     = "../pac/good.pac"
  on_error = pac.good # ERROR: PAC upon PAC
}
pac "word" {
  file     = "../pac/good.pac"
  on_error = "direct" # ERROR: Unknown value
}
pac "good" {
  file     = "../pac/good.pac"
  on_error = [upstream.a, pac.of_file] # ERROR: PAC upon PAC
}
pool "p" {
  members = [upstream.a, pac.good]
}
pac "by_pool" {
  file     = "../pac/good.pac"
  on_error = pool.p # ERROR: PAC upon PAC
}
chain "before" { # ERROR: Script before a choice
  hops = [pac.word, pool.p]
}
chain "nested" { # ERROR: Script before a choice
  hops = [pool.p, pac.word]
}
chain "good" {
  hops = [pac.word, upstream.a]
}
resolver "names" {
  servers = ["tcp://192.0.2.53"]
  via     = pool.p # ERROR: Names by way of a script
}
policy "default" {
  resolver = resolver.names
  rule "none" {
    match { host = "none.example" }
    via = pac.none
  }
  rule "both" {
    match { host = "both.example" }
    via = pac.both
  }
  rule "scheme" {
    match { host = "scheme.example" }
    via = pac.scheme
  }
  rule "secret" {
    match { host = "secret.example" }
    via = pac.secret
  }
  rule "html" {
    match { host = "html.example" }
    via = pac.html
  }
  rule "half" {
    match { host = "half.example" }
    via = pac.half
  }
  rule "gone" {
    match { host = "gone.example" }
    via = pac.gone
  }
  rule "often" {
    match { host = "often.example" }
    via = pac.often
  }
  rule "upon" {
    match { host = "upon.example" }
    via = pac.upon
  }
  rule "word" {
    match { host = "word.example" }
    via = pac.word
  }
  rule "chain" {
    match { host = "chain.example" }
    via = [upstream.a, pac.by_pool]
  }
  rule "chains" {
    match { host = "chains.example" }
    via = chain.good
  }
  rule "before" {
    match { host = "before.example" }
    via = chain.before
  }
  rule "nested" {
    match { host = "nested.example" }
    via = chain.nested
  }
  otherwise { via = pool.p }
}
test "entries" {
  connect = "a.example:443"
  expect { pac = ["GATEWAY x:1"] } # ERROR: Wrong entry
}
