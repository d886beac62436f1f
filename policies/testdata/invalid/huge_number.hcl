# Nine bytes that would be written out as twenty million digits.
locals {
  x = "x${1e20000000}" # ERROR: Number too large
}
