gateway {
  timezone = "UTC"
}
locals {
  office = ["10.20.0.0/16"]
}
listener "l" {
  address = "127.0.0.1:3128"
}
upstream "a" {
  url = "https://proxy.example:8443"
  auth {
    username = "x"
    password = credential("corp")
  }
}
upstream "b" {
  url = "socks5h://jump.example:1080"
}
pool "p" {
  members = [[upstream.a, upstream.b], direct]
}
list "ads" {
  file       = "../lists/ads.txt"
  subdomains = true
}
list "hostsfile" {
  file   = "../lists/hosts"
  format = "hosts_file"
}
list "nets" {
  file = "../lists/nets.txt"
  type = "networks"
}
policy "default" {
  rule "ads" {
    match { host = [list.ads, list.hostsfile, "*.more.example"] }
    deny { status = 451 }
  }
  rule "night" {
    match {
      client = local.office
      port   = [443, "8000-8999"]
      not { host = "ok.example" }
    }
    when = now.hour >= 22 || now.hour < 6
    via  = [upstream.a, upstream.b]
  }
  rule "nets" {
    match { address = list.nets }
    via    = direct
    server = "192.0.2.1:443"
  }
  otherwise { via = pool.p }
}
test "below a listed name" {
  connect = "x.ads.example:443"
  expect { deny = 451 }
}
test "mixed case and dot in the list" {
  connect = "a.mixed.case.example:443"
  expect { rule = "ads" }
}
test "letters beyond ASCII" {
  connect = "bücher.example:443"
  expect { rule = "ads" }
}
test "the suffix form of a list does not take the name itself" {
  connect = "tracker.example:443"
  resolve = ["203.0.113.1"]
  expect { rule = "otherwise" }
}
test "a listed address" {
  connect = "192.0.2.66:443"
  expect { rule = "ads" }
}
test "a hosts file" {
  connect = "two.hosts.example:443"
  expect { rule = "ads" }
}
test "localhost at the top of a hosts file does not count" {
  connect = "localhost:443"
  resolve = ["127.0.0.1"]
  expect { rule = "otherwise" }
}
test "night" {
  at      = "2026-11-23T23:00:00Z"
  client  = "10.20.0.1"
  connect = "x.example:8443"
  resolve = ["203.0.113.1"]
  expect { via = [upstream.a, upstream.b] }
}
test "networks of a list" {
  connect = "x.example:443"
  resolve = ["203.0.113.1", "10.99.3.4"]
  expect { server = "192.0.2.1:443" }
}
