# Split DNS: the company's names are asked of the company's name servers, the plant's through its jump host, all others over TLS.

resolver "office" {
  servers = ["tls://192.0.2.53", "tls://192.0.2.54"] # whoever listens on the way learns no names
  tls { server_name = "dns.example" }                # what their certificate must be good for

  domain "corp.example" {
    servers = ["10.0.0.53", "10.0.1.53"] # an address alone is asked by UDP
  }
  domain "plant.corp.example" {
    servers = ["tcp://10.50.0.53"] # behind the jump host, which carries connections
    via     = upstream.plant
  }

  hosts  = { "printer.corp.example" = "10.0.7.9" } # in no name server
  search = ["corp.example"]                        # "intranet" is intranet.corp.example

  cache { serve_stale = "4h" } # while no server answers
}

gateway {
  resolver = resolver.office
}

listener "office" {
  address = "127.0.0.1:3128"
}

upstream "plant" {
  url = "socks5h://10.0.9.5:1080" # by its address: its name would have to be looked up to look names up
}

upstream "internet" {
  url = "https://proxy.corp.example:8443"
}

policy "default" {
  rule "plant" {
    match { host = "*.plant.corp.example" }
    via             = upstream.plant
    resolve_locally = true # the jump host knows no names
  }

  rule "inside" {
    match { address = "10.0.0.0/8" } # what the name has, asked of the servers above
    via = direct
  }

  otherwise { via = upstream.internet }
}

test "a machine of the plant" {
  connect = "press-4.plant.corp.example:502"
  expect {
    rule = "plant"
    via  = upstream.plant
  }
}

test "the intranet, by its address" {
  connect = "intranet:443"
  resolve = ["10.0.3.10"]
  expect { rule = "inside" }
}

test "what is elsewhere" {
  connect = "www.example.net:443"
  resolve = ["203.0.113.7"]
  expect { rule = "otherwise" }
}
