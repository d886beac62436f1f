# Two proxies that stand in for each other, and a third way when both are down.

listener "desk" {
  address = "127.0.0.1:3128"
}

upstream "proxy_a" {
  url = "http://proxy-a.corp.example:8080"
  timeouts { dial = "3s" }
}

upstream "proxy_b" {
  url = "http://proxy-b.corp.example:8080"
  timeouts { dial = "3s" }
}

upstream "backup" {
  url             = "socks5h://backup.dmz.example:1080"
  max_connections = 200
}

pool "corp" {
  members = [upstream.proxy_a, upstream.proxy_b, upstream.backup]
  select  = "first_healthy" # in this order, and back again when the first is well

  fail_back = "30s" # ... for so long

  health {
    every   = "10s"
    http    = "https://www.example.com/" # what a healthy proxy can reach
    method  = "HEAD"
    status  = ["200-399"]
    healthy = 2 # checks in a row, until a member is let in again
  }
  retry {
    attempts    = 3 # counts the first try
    backoff     = "100ms"
    max_backoff = "1s"
    deadline    = "15s"
  }
  eject {
    failures = 2 # in a row, by the proxy's own fault
    time     = "5s"
    max_time = "2m"
  }
}

pool "downloads" {
  members = [upstream.proxy_a, upstream.proxy_b]
  select  = "least_connections"
  warm_up = "1m" # a member that comes back gets its share little by little
  health { every = "5s" }
}

policy "default" {
  rule "large files" {
    match { host = ["mirror.*", "*.mirror.example"] }
    via = pool.downloads
  }

  rule "payments" {
    match { host = "*.bank.example" }
    via = pool.corp
    retry { attempts = 1 } # better to fail than to come from another address
  }

  otherwise { via = pool.corp }
}

test "most things go through the pool" {
  connect = "www.example.com:443"
  expect { via = pool.corp }
}

test "downloads are spread" {
  request = "GET http://mirror.example.com/big.iso"
  expect {
    rule = "large files"
    via  = pool.downloads
  }
}

test "payments" {
  connect = "api.bank.example:443"
  expect { rule = "payments" }
}
