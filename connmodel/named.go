package connmodel

// KernelSent reports whether the client asked for an address, by way of a firewall that sent its connection here. Under which name it asks
// for it shows inside, if at all. Requests in a tunnel ask for themselves.
func (f *Facts) KernelSent() bool {
	return (f.Protocol == ProtocolRedirect || f.Protocol == ProtocolTProxy) && f.Tunnel.IsZero()
}

// lacksName reports whether it is not known yet whether the client asks for a name.
func (f *Facts) lacksName() bool {
	return f.KernelSent() && f.Hello == nil && f.Request == nil && f.Lacks(NeedHello|NeedRequest) != 0
}

// Named gives a flow that a firewall sent here, to an address, the name that was found inside: Target is then of that name, and TargetIP
// stays where the client connects to. For other flows, and for the name "", it does nothing.
func (f *Facts) Named(name string) error {
	if name == "" || !f.KernelSent() {
		return nil
	}
	a, err := MakeAddress(name, f.Target.Port)
	if err == nil {
		f.Target = a
	}
	return err
}

// NamedInside reports whether f goes to the address that the client connects to, by way of a firewall, under a name that was found inside:
// a connection, or a request in one.
func (f *Facts) NamedInside() bool {
	return (f.Protocol == ProtocolRedirect || f.Protocol == ProtocolTProxy) && f.TargetIP.IsValid() && f.Target.IP() != f.TargetIP
}
