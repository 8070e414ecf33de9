package generator

import "github.com/weirflow/weir/internal/base"

// Dice is a small random generator whose throws depend on a seed and an index
// alone, which is what the function of a generator needs. It implements
// math/rand/v2.Source. A copy goes its own way from where it was copied.
type Dice struct{ state uint64 }

// Roll returns the dice of record i under a seed.
func Roll(seed, i uint64) Dice { return Dice{base.Mix(seed, i)} }

// Uint64 returns 64 random bits.
func (d *Dice) Uint64() uint64 {
	d.state += 0x9e3779b97f4a7c15
	return base.HashUint64(d.state)
}

// IntN returns a number from 0 up to, not including, n. n below 1 counts as 1.
// The bias is below n/2^64.
func (d *Dice) IntN(n int) int { return base.OwnerOf(d.Uint64(), max(n, 1)) }

// Float64 returns a number from 0 up to, not including, 1.
func (d *Dice) Float64() float64 { return float64(d.Uint64()>>11) / (1 << 53) }
