locals {
  office = ["10.20.0.0/16", "fd00:20::/32"]
}

gateway {
  name     = "gw-1"
  timezone = "Europe/Berlin"
  state    = "state"
  log {
    level  = "info"
    format = "json"
  }
  admin { address = "unix:/run/viaduct/admin.sock" }
  records { stdout = true }
  limits {
    connections            = 20000
    connections_per_client = 200
  }
  timeouts {
    idle    = "30m"
    connect = "20s"
  }
  direct {
    source_address = "10.20.0.1"
    keepalive      = "off"
  }
  drain_timeout = "30s"
}

listener "desk" {
  address   = "127.0.0.1:3128"
  protocols = ["http", "socks4", "socks5"]
}

listener "lan" {
  address           = "0.0.0.0:8443"
  clients           = local.office
  policy            = policy.lan
  handshake_timeout = "5s"
  limits { connections_per_client = 100 }
}

listener "local" {
  address = "unix:/run/viaduct/proxy.sock"
  mode    = "0600"
}

listener "passed" {
  address = "systemd:proxy"
}

variable "corp_port" {
  type    = number
  default = 8080
}

upstream "corp_a" {
  url = "http://127.0.0.1:${var.corp_port}"
  auth {
    username = "svc-viaduct"
    password = env("CORP_PASSWORD")
  }
}

upstream "corp_b" {
  url             = "https://proxy-b.corp.example:8443"
  max_connections = 500
  plain_connect   = true
  http2           = false
  tls { min_version = "1.3" }
  timeouts {
    dial      = "3s"
    handshake = "8s"
  }
}

upstream "jump" {
  url = "socks5h://jump.dmz.example:1080"
}

pool "corp" {
  members = [upstream.corp_a, [upstream.corp_b, upstream.jump], direct]
  select  = "hash"
  hash_by = "target"
  health {
    every   = "10s"
    connect = "www.example.com:443"
  }
  retry {
    attempts    = 3
    backoff     = "200ms"
    max_backoff = "2s"
    on          = ["timeout", "refused"]
  }
  eject {
    failures = 5
    time     = "10s"
    max_time = "1m"
  }
}

chain "partner" {
  hops = [pool.corp, upstream.jump]
}

policy "default" {
  rule "intranet" {
    match { host = ["intranet", "*.corp.example"] }
    via = direct
  }
  rule "partner api" {
    match {
      host = "api.partner.example"
      port = 443
    }
    via    = chain.partner
    server = "10.9.0.5:8443"
    tags   = ["partner"]
  }
  rule "api by path" {
    match {
      host   = "www.example.com"
      path   = "/api/*"
      method = ["GET", "HEAD"]
      header = { "X-Team" = "blue*" }
    }
    via    = direct
    server = "api.internal.example:443"
    tls { mode = "upgrade" }
    headers {
      set    = { "X-Via-Gateway" = "yes" }
      remove = ["X-Secret"]
    }
  }
  rule "office hours only" {
    match { host = "*.games.example" }
    when = now.hour >= 9 && now.hour < 17 && client.user != "admin"
    deny {
      status = 403
      reason = "not during office hours"
    }
  }
  rule "weekend" {
    match {
      time = ["sat,sun", "mon-fri 22:00-06:00"]
      port = ["8000-8999", 22]
      not { host = "/^ok[0-9]+\\.example$/" }
    }
    match {
      client  = local.office
      address = ["192.0.2.0/24"]
    }
    via = [upstream.corp_b, upstream.jump]
  }
  rule "watch" {
    match { user = "a*" }
    shadow = true
    deny {}
  }
  otherwise { via = pool.corp }
}

policy "lan" {
  otherwise { via = pool.corp }
}

test "the partner API leaves through the jump host" {
  client  = "10.20.1.7"
  connect = "api.partner.example:443"
  expect {
    rule   = "partner api"
    via    = [pool.corp, upstream.jump]
    server = "10.9.0.5:8443"
    tags   = ["partner"]
  }
}

test "games in the morning" {
  at      = "2026-11-23 10:00"
  connect = "x.games.example:443"
  expect {
    rule = "office hours only"
    deny = 403
  }
}

test "weekend" {
  at      = "2026-11-28 10:00"
  connect = "x.example:8080"
  resolve = ["192.0.2.77"]
  expect {
    rule = "weekend"
    via  = [upstream.corp_b, upstream.jump]
  }
}

test "by address" {
  client  = "10.20.1.7"
  connect = "x.example:443"
  resolve = ["192.0.2.77"]
  expect { rule = "weekend" }
}

test "a request" {
  request = "GET http://www.example.com/api/v1?x=1"
  header  = { "x-team" = "bluebird" }
  expect {
    rule   = "api by path"
    server = "api.internal.example:443"
  }
}

test "lan" {
  listener = listener.lan
  connect  = "x.example:443"
  expect {
    policy = policy.lan
    rule   = "otherwise"
    via    = pool.corp
  }
}
