# One listener for this machine, one proxy for the world, and a file that says what happened.

gateway {
  records { path = "records.ndjson" } # beside this file; one line of JSON per connection
}

variable "proxy" {
  type        = string
  default     = "http://127.0.0.1:8080"
  description = "the proxy that leads out"
}

listener "desk" {
  address = "127.0.0.1:3128" # HTTP and SOCKS, told apart by the first byte
}

upstream "office" {
  url = var.proxy
}

policy "default" {
  rule "this machine" {
    match { host = ["localhost", "*.localhost"] }
    match {
      address = ["127.0.0.0/8", "::1"] # servers here are refused unless a rule lists them
      resolve = false
    }
    via = direct
  }

  rule "intranet" {
    match { host = ["intranet", "*.corp.example"] }
    via = direct
  }

  rule "no telemetry" {
    match { host = ["telemetry.*", "*.metrics.example"] }
    deny { reason = "telemetry does not leave this machine" }
  }

  otherwise { via = upstream.office }
}

test "a server on this machine is reached directly" {
  request = "GET http://127.0.0.1:8000/"
  expect {
    rule = "this machine"
    via  = direct
  }
}

test "the intranet is reached directly" {
  connect = "wiki.corp.example:443"
  expect {
    rule = "intranet"
    via  = direct
  }
}

test "telemetry stays here" {
  connect = "telemetry.vendor.example:443"
  expect {
    rule = "no telemetry"
    deny = true
  }
}

test "the world is reached through the proxy" {
  socks5 = "www.example.com:443"
  expect { via = upstream.office }
}
