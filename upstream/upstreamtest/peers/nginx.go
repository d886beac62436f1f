package peers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"viaduct/upstream/upstreamtest"
)

// NginxOptions configures nginx as an origin. The zero value serves plain HTTP.
type NginxOptions struct {
	// CA, if set, adds a TLS port with a certificate for Names.
	CA *upstreamtest.CA
	// Names of the certificate; empty means "localhost" and 127.0.0.1.
	Names []string
	// Root is a directory of further files to serve below /files/.
	Root string
	// ProxyProtocol makes it await a PROXY protocol header, and tell it as "told" in /headers.
	ProxyProtocol bool
	// HTTP2 has the TLS port speak HTTP/2, too.
	HTTP2 bool
	// NoAccessLog leaves the access log out, for benchmarks.
	NoAccessLog bool
}

// NginxProc is nginx, with its second port.
type NginxProc struct {
	*Proc
	tls string
}

// TLSAddr is the "host:port" that speaks TLS, "" without a CA.
func (n *NginxProc) TLSAddr() string { return n.tls }

// Nginx starts nginx as an origin with these paths:
//
//	/            "hello from nginx\n"
//	/headers     one line "name: value" for each of method, uri, protocol,
//	             scheme, host, via, proxy-authorization, authorization,
//	             x-forwarded-for, user-agent, remote
//	/status/503  that status (also 204, 302, 404)
//	/big         1 MiB of zeros
//	/files/      Root
//
// The access log has one line "access port=… host=… via=… proxyauth=… …" per request.
func Nginx(ctx context.Context, dir string, o NginxOptions) (*NginxProc, error) {
	path, err := mustLook("nginx")
	if err != nil {
		return nil, err
	}
	own, err := place(dir, "nginx")
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(own, "www"), 0o755); err != nil {
		return nil, fmt.Errorf("peers: %w", err)
	}
	if _, err := write(own, "www/index.html", "hello from nginx\n", 0o644); err != nil {
		return nil, err
	}
	if _, err := write(own, "www/big", string(make([]byte, 1<<20)), 0o644); err != nil {
		return nil, err
	}
	hold, err := ports(2)
	if err != nil {
		return nil, err
	}
	release := func() { hold[0].Release(); hold[1].Release() }
	told := ""
	if o.ProxyProtocol {
		told = " proxy_protocol"
	}
	listen, tlsAddr := "listen "+hold[0].Addr()+" backlog=4096"+told+";", ""
	if o.CA != nil {
		names := o.Names
		if len(names) == 0 {
			names = []string{"localhost", "127.0.0.1"}
		}
		cert, err := o.CA.Issue(names, upstreamtest.CertOptions{})
		if err != nil {
			release()
			return nil, err
		}
		certFile, keyFile, err := upstreamtest.WriteFiles(own, "nginx", cert)
		if err != nil {
			release()
			return nil, err
		}
		tlsAddr = hold[1].Addr()
		if o.HTTP2 {
			told += " http2"
		}
		listen += fmt.Sprintf(" listen %s ssl%s; ssl_certificate %s; ssl_certificate_key %s;", tlsAddr, told, certFile, keyFile)
	}
	conf, err := write(own, "nginx.conf", nginxConfig(own, listen, o), 0o644)
	if err != nil {
		release()
		return nil, err
	}
	p, err := begin(ctx, "nginx", spec{
		path: path, args: []string{"-c", conf, "-p", own, "-e", "stderr"}, dir: own, addr: hold[0].Addr(),
		logs: []string{filepath.Join(own, "access.log")},
	}, hold...)
	if err != nil {
		return nil, err
	}
	return &NginxProc{Proc: p, tls: tlsAddr}, nil
}

func nginxConfig(dir, listen string, o NginxOptions) string {
	user, access, files, told := "", "access_log "+dir+"/access.log seen;", "", ""
	if o.ProxyProtocol {
		told = `told: $proxy_protocol_addr:$proxy_protocol_port at $proxy_protocol_server_addr:$proxy_protocol_server_port\n`
	}
	if os.Getuid() == 0 {
		user = "user root root;"
	}
	if o.NoAccessLog {
		access = "access_log off;"
	}
	if o.Root != "" {
		files = "location /files/ { alias " + o.Root + "/; autoindex on; }"
	}
	return fmt.Sprintf(`daemon off;
%s
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events { worker_connections 8192; }
http {
  log_format seen 'access port=$server_port method=$request_method uri=$request_uri status=$status host=$http_host via="$http_via" '
                  'proxyauth="$http_proxy_authorization" agent="$http_user_agent" remote=$remote_addr:$remote_port tls=$ssl_protocol sni=$ssl_server_name';
  %s
  default_type application/octet-stream;
  client_body_temp_path tmp-body; proxy_temp_path tmp-proxy; fastcgi_temp_path tmp-fcgi; uwsgi_temp_path tmp-uwsgi; scgi_temp_path tmp-scgi;
  keepalive_requests 1000000;
  keepalive_timeout 1h;
  server {
    %s
    root %s/www;
    location = /headers {
      default_type text/plain;
      return 200 "method: $request_method\nuri: $request_uri\nprotocol: $server_protocol\nscheme: $scheme\nhost: $http_host\nvia: $http_via\nproxy-authorization: $http_proxy_authorization\nauthorization: $http_authorization\nx-forwarded-for: $http_x_forwarded_for\nuser-agent: $http_user_agent\nremote: $remote_addr:$remote_port\n%s";
    }
    location = /status/204 { return 204; }
    location = /status/302 { return 302 /; }
    location = /status/404 { return 404; }
    location = /status/503 { return 503; }
    %s
  }
}
`, user, access, listen, dir, told, files)
}
