"""What the engine's choices between equal ways are priced with: every tuned constant, in one place.

None of them changes an answer, only how fast it comes. `python benchmarks/calibrate.py` measures them on the machine at
hand and prints what it would choose. The unit of a price is an **operation**, a multiplication or addition of a plain
convolution, unless another is named, so that fast and slow machines agree; and the choices are flat. With all that a
processor with AVX2 measures of itself (from a quarter to five times of the values here, found with AVX-512) it is no
faster than with these; `NUMBERS` it measures too small for networks that go by whole maps.
"""

# Batches of a replay ------------------------------------------------------------------------------------------------

# What one step of a replay costs besides its arithmetic.
STEP = 6e7
# And for each of its weights, which are brought into order anew for each batch.
WEIGHT = 100.0
# And for every number that is carried from windows to whole maps.
SPREAD = 300.0
# An operator without filters, for each of its maps at each place.
PLAIN = 120.0
# Whole maps take so many numbers of one value at once, 28 MB in float32: larger blocks come from the system anew each
# time, and that is what they would wait for.
NUMBERS = 7 << 20
# A price that depends on how many go together is asked for so many, before that is known.
TYPICAL_BATCH = 48

# Windows ------------------------------------------------------------------------------------------------------------

# A window with at least this share of its whole map's arithmetic is taken as that: gathering would cost more than it
# saves.
NEARLY_WHOLE = 0.95
# By differences a convolution costs a little more for each multiplication: their windows have ragged edges.
DIFFERENCE = 1.14
# For one change at a time, a number that is gathered for a window, and a call to gather.
CARRIED, GATHER = 60.0, 3e6
# Sums on windows of at least so many numbers are taken window by window, in place.
LARGE_SUM = 100_000
# So many blocks of windows that lie alike are copied one by one; more are faster by index.
COPIED_BLOCKS = 64

# 3×3 convolutions by tiles, in multiplications of a plain convolution -------------------------------------------------

# One at a point, one of a transform, a number carried from one place in memory to another.
TILE_PRODUCT, TILE_TRANSFORM, TILE_NUMBER = 1.2, 1.7, 120.0
# A call, and to prepare a filter.
TILE_CALL, TILE_FILTER = 1.5e8, 8600.0
# Numbers at the points that are worked on at once: more would leave the processor's cache, fewer would read the filters
# too often. So many, or so many for each filter.
TILE_PART, TILE_PART_OF_FILTER = 1 << 20, 12

# Projections --------------------------------------------------------------------------------------------------------

# Numbers in one signal above which a batch of units is split: windows of this size stay in the processor's cache, and
# each part then carries windows of its own size.
SIGNAL = 2_000_000
