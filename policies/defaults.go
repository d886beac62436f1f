package policies

import (
	"errors"
	"net/url"
	"slices"
	"strings"
)

var proxyVariables = []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"}

func isProxyVariable(name string) bool { return slices.Contains(proxyVariables, name) }

func parseProxyURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Host == "" {
		if strings.Contains(text, "://") {
			return nil, errors.New("not a URL")
		}
		u, err = url.Parse("http://" + text)
	}
	if err != nil {
		return nil, errors.New("not a URL")
	}
	return u, nil
}
