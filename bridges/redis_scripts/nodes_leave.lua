-- It goes: its name is free at once.
if redis.call('HGET', lives, name) == life then forget(name) end
