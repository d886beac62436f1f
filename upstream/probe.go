package upstream

import "context"

func (t *Table) startProbes(ctx context.Context) {}
