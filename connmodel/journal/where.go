package journal

import "viaduct/connmodel"

// where turns f into a condition on the table block that holds for every block in which there may be a record that f means; "" = all blocks. Match has
// the last word, so a condition may let too much through, but never too little.
func where(f *connmodel.Filter) (sql string, args []any) {
	return "", nil
}
