package fold

// CapValues lowers the cap of distinct values, so that short logs reach it.
func (c Config) CapValues(n int) Config {
	c.maxValues = n
	return c
}
