# Encodes a clip that is computed, with sound, then decodes it and compares.
cd /tmp
video=testsrc2=size=160x120:rate=25:duration=1
ffmpeg -v error -f lavfi -i $video -f lavfi -i sine=frequency=440:sample_rate=22050:duration=1 \
	-c:v libx264 -preset fast -threads 2 -g 25 -pix_fmt yuv420p -c:a aac -b:a 32k -movflags +faststart clip.mp4
echo "encoded: status $?, $(($(stat -c %s clip.mp4) > 5000)) for more than 5000 bytes"
ffmpeg -v info -nostats -i clip.mp4 -f lavfi -i $video -lavfi "[0:v][1:v]psnr" -f null - >log 2>&1
sed -n -e 's/.*\(Video: h264\).* \(160x120\).*/\1 \2/p' -e 's/.*\(Audio: aac\).* \(22050 Hz\).*/\1 \2/p' log | sort | uniq
sed -n 's/.*PSNR.*average:\([0-9]*\).*/\1/p' log | while read db; do echo "faithful $((db > 30))"; done
