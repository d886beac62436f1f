# An office: what is inside stays inside, conferencing takes the short way out, the rest goes through the company's proxy.

locals {
  office = ["10.20.0.0/16", "fd00:20::/32"]
  inside = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8"]
}

gateway {
  timezone = "Europe/Berlin"
}

listener "office" {
  address = "0.0.0.0:3128"
  clients = concat(local.office, ["127.0.0.1"]) # anybody else is refused at accept
  limits { connections_per_client = 500 }
}

upstream "corp" {
  url = "https://proxy.corp.example:8443" # TLS to the proxy: its password does not cross the network in the clear
  auth {
    username = "svc-viaduct"
    password = credential("corp") # $CREDENTIALS_DIRECTORY/corp
  }
}

list "conferencing" {
  file = "conferencing.txt"
}

policy "default" {
  rule "intranet" {
    match { host = ["intranet", "*.corp.example"] }
    match {
      address = local.inside
      resolve = false # addresses written as such; no name is looked up for this
    }
    via = direct
  }

  rule "conferencing" {
    match {
      host = list.conferencing
      port = 443
    }
    via = direct
    timeouts { idle = "4h" }
  }

  rule "games after work" {
    match { host = "*.games.example" }
    when = now.hour >= 8 && now.hour < 18
    deny {
      status = 403
      reason = "not during office hours"
    }
  }

  otherwise { via = upstream.corp }
}

test "the wiki is inside" {
  client  = "10.20.1.7"
  connect = "wiki.corp.example:443"
  expect {
    rule = "intranet"
    via  = direct
  }
}

test "a printer by its address" {
  client  = "10.20.1.7"
  request = "GET http://192.168.7.9/status"
  expect { rule = "intranet" }
}

test "a call takes the short way" {
  client  = "10.20.1.7"
  connect = "eu1.meet.example:443"
  expect {
    rule = "conferencing"
    via  = direct
  }
}

test "no games at noon" {
  client  = "10.20.1.7"
  connect = "chess.games.example:443"
  at      = "2026-11-23 12:00"
  expect {
    rule   = "games after work"
    deny   = 403
    reason = "not during office hours"
  }
}

test "games in the evening" {
  client  = "10.20.1.7"
  connect = "chess.games.example:443"
  at      = "2026-11-23 20:00"
  expect { via = upstream.corp }
}

test "the rest goes through the company's proxy" {
  client  = "10.20.1.7"
  connect = "www.example.com:443"
  expect {
    rule = "otherwise"
    via  = upstream.corp
  }
}
