# if server.error: retry, or use another way. A pool does both: each attempt goes to the next member, and each is in the record.
listener "desk" { address = "127.0.0.1:3128" }

upstream "corp_a" { url = "socks5h://proxy-a.corp.example:1080" }
upstream "corp_b" { url = "socks5h://proxy-b.corp.example:1080" }

pool "corp" {
  members = [upstream.corp_a, upstream.corp_b]
  select  = "first_healthy"
  retry {
    attempts    = 3
    backoff     = "200ms"
    max_backoff = "2s"
    on          = ["refused", "unreachable", "timeout", "dns", "reset", "eof"]
  }
}

policy "default" {
  otherwise { via = pool.corp }
}

test "everything goes by the pool" {
  connect = "www.example.com:443"
  expect { via = pool.corp }
}
