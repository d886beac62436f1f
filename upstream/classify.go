package upstream

import "viaduct/connmodel"

func classify(e *HopError) *connmodel.ConnError {
	return &connmodel.ConnError{Phase: e.Phase, Side: connmodel.SideServer, Message: e.Err.Error(), Cause: e}
}
