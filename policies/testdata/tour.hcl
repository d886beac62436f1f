# /etc/viaduct/viaduct.hcl
locals {
  office = ["10.20.0.0/16", "fd00:20::/32"]
}

gateway {
  log {
    level  = "info"
    format = "json"
  }
  admin { address = "unix:/run/viaduct/admin.sock" }       # control, metrics, dashboard
  drain_timeout = "30s"
}

# ---- where clients connect -------------------------------------------------
listener "desk" {
  address   = "127.0.0.1:3128"
  protocols = ["http", "socks4", "socks5"]                 # default: all three, told apart by the first byte
}

listener "lan" {
  address = "0.0.0.0:8443"
  clients = local.office                                   # anybody else is refused at accept
  policy  = policy.lan                                     # default: the policy named "default", or the only one
  authenticate { htpasswd = "/etc/viaduct/users.htpasswd" }
}

# ---- the proxies on the way ------------------------------------------------
upstream "corp_a" {
  url = "http://proxy-a.corp.example:8080"
  auth {
    username = "svc-viaduct"
    password = credential("corp")
  }
}

upstream "corp_b" {
  url = "https://proxy-b.corp.example:8443"                # TLS to the proxy itself
  tls {
    ca          = "/etc/viaduct/corp-ca.pem"
    min_version = "1.2"
  }
  auth {
    username = "svc-viaduct"
    password = credential("corp")
  }
}

upstream "jump" {
  url = "socks5h://jump.dmz.example:1080"
}

pool "corp" {                                              # members stand in for each other
  members = [upstream.corp_a, upstream.corp_b]
  select  = "first_healthy"                                # round_robin, random, least_connections, fastest, hash (with hash_by)
  health {
    every   = "10s"
    connect = "www.example.com:443"
  }
  retry {
    attempts    = 3                                        # counts the first try
    backoff     = "200ms"
    max_backoff = "2s"
  }
}

chain "partner" {
  hops = [pool.corp, upstream.jump]                        # first hop is nearest to us
}

# ---- who goes where --------------------------------------------------------
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
    server = "10.9.0.5:8443"                               # dial this address instead of the target
  }
  rule "api by path" {
    match {
      host = "www.example.com"
      path = "/api/*"                                      # plain HTTP, or intercepted TLS
    }
    via    = direct
    server = "api.internal.example:443"
    tls { mode = "upgrade" }                               # plain from the client, TLS to the server
  }
  rule "office hours only" {
    match { host = "*.games.example" }
    when = now.hour >= 9 && now.hour < 17 && client.user != "admin"
    deny {
      status = 403
      reason = "not during office hours"
    }
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
  }
}
