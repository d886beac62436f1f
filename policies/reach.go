package policies

func (l *loader) checkReach(p *policyBlock) {}
