"""The migration stream as bytes: no trio, no sockets, no guests, no clocks."""
