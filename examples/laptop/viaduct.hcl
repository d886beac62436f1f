# A laptop: through the proxy of the company where it can be reached (office, VPN), direct everywhere else.

listener "desk" {
  address = "127.0.0.1:3128"
}

upstream "corp" {
  url = "http://proxy.corp.example:8080"
  auth {
    username = "svc-laptop"
    password = credential("corp")
    schemes  = ["negotiate", "ntlm"]
  }
  timeouts { dial = "3s" }
}

policy "default" {
  rule "the office" {
    match { host = ["intranet", "*.corp.example"] }
    when = network.reachable("proxy.corp.example:8080")
    via  = direct # one is inside: nothing in between
  }

  # From home these names lead nowhere, or to somebody else.
  rule "only in the office" {
    match { host = ["intranet", "*.corp.example"] }
    deny { reason = "this is reachable in the office or by VPN only" }
  }

  rule "everything else, in the office" {
    when = network.reachable("proxy.corp.example:8080")
    via  = upstream.corp
  }

  otherwise { via = direct }
}

test "the web in the office" {
  connect   = "www.example.com:443"
  reachable = ["proxy.corp.example:8080"]
  expect { via = upstream.corp }
}

test "the web at home" {
  connect   = "www.example.com:443"
  reachable = []
  expect { via = direct }
}

test "the intranet in the office" {
  request   = "GET http://intranet/"
  reachable = ["proxy.corp.example:8080"]
  expect { rule = "the office" }
}

test "the intranet at home" {
  connect   = "wiki.corp.example:443"
  reachable = []
  expect {
    rule = "only in the office"
    deny = 403
  }
}
