"""The migration engine: phases, deadlines and policy, over the contracts and the codec."""
