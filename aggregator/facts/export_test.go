package facts

// Columns returns "name type" of every column, by table.
func Columns() map[string][]string {
	return map[string][]string{
		clicks.name: columns(&clicks), visitors.name: columns(&visitors), totals.name: columns(&totals), progress.name: columns(&progress), logsTable.name: columns(&logsTable),
	}
}

func columns[R any](t *table[R]) (all []string) {
	for _, c := range t.columns {
		all = append(all, c.name+" "+c.kind)
	}
	return all
}
