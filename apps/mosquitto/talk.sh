# Subscribers and publishers over loopback: retained messages, all qualities of service, a
# wildcard, a last will, and a session that gets what it missed.
mosquitto -c /etc/mosquitto/mosquitto.conf &
broker=$!
until mosquitto_pub -t up -m 1 2>/dev/null; do
	kill -0 $broker || exit 1
	sleep 0.2
done
mosquitto_pub -r -t kiln/oven/temperature -m 1250
echo "retained $(mosquitto_sub -C 1 -t 'kiln/+/temperature' -F '%t %p')"
# A session that stays while its client is away.
mosquitto_sub -i keeper -c -q 2 -t 'log/#' -E
for q in 0 1 2; do
	for i in 1 2 3 4 5; do echo "$q$i"; done | mosquitto_pub -l -q $q -t "log/$q"
done
echo "missed" $(mosquitto_sub -i keeper -c -q 2 -t 'log/#' -C 15 | sort)
mosquitto_sub -C 1 -t wills/oven >/tmp/will &
watcher=$!
sleep 1
mosquitto_sub -t nothing --will-topic wills/oven --will-payload "gone cold" &
doomed=$!
sleep 1
kill -KILL $doomed
wait $watcher
echo "will: $(cat /tmp/will)"
kill -TERM $broker
wait $broker
echo "stopped with status $?"
